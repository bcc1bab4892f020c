<?php
/**
 * The gateway in the checkout block.
 *
 * @package PocketsflowGateway
 */

use Automattic\WooCommerce\Blocks\Payments\Integrations\AbstractPaymentMethodType;

defined( 'ABSPATH' ) || exit;

/**
 * Title and description for the block's script. The block pays by process_payment, as the old checkout does.
 */
final class Pocketsflow_Blocks extends AbstractPaymentMethodType {

	/**
	 * The gateway's id.
	 *
	 * @var string
	 */
	protected $name = 'pocketsflow';

	/**
	 * The gateway.
	 *
	 * @var Pocketsflow_Gateway|null
	 */
	private $gateway;

	/**
	 * Finds the gateway.
	 */
	public function initialize() {
		$gateways      = WC()->payment_gateways()->payment_gateways();
		$this->gateway = isset( $gateways[ $this->name ] ) ? $gateways[ $this->name ] : null;
	}

	/**
	 * Whether it is offered.
	 *
	 * @return bool
	 */
	public function is_active() {
		return $this->gateway && $this->gateway->is_available();
	}

	/**
	 * The block's script.
	 *
	 * @return array
	 */
	public function get_payment_method_script_handles() {
		$needs = array( 'wc-blocks-registry', 'wc-settings', 'wp-element', 'wp-html-entities' );
		wp_register_script( 'pocketsflow-blocks', plugins_url( 'blocks.js', __FILE__ ), $needs, '1.0.0', true );
		return array( 'pocketsflow-blocks' );
	}

	/**
	 * What the browser is told: nothing of the stack and its key.
	 *
	 * @return array
	 */
	public function get_payment_method_data() {
		return array(
			'title'       => $this->gateway ? $this->gateway->get_title() : '',
			'description' => $this->gateway ? $this->gateway->get_description() : '',
			'supports'    => array( 'products' ),
		);
	}
}
