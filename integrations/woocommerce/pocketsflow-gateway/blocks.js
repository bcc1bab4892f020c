/* The gateway in the checkout block: a title and a description. The server does the rest. */
( function ( wc, wp ) {
	const settings = wc.wcSettings.getSetting( 'pocketsflow_data', {} );
	const decode = wp.htmlEntities.decodeEntities;
	const text = function ( name ) {
		return wp.element.createElement( 'span', null, decode( settings[ name ] || '' ) );
	};
	wc.wcBlocksRegistry.registerPaymentMethod( {
		name: 'pocketsflow',
		label: text( 'title' ),
		ariaLabel: decode( settings.title || 'Pocketsflow' ),
		content: text( 'description' ),
		edit: text( 'description' ),
		canMakePayment: function () {
			return true;
		},
		supports: { features: settings.supports || [ 'products' ] },
	} );
} )( window.wc, window.wp );
